//! The file: what is understood, and the exact sentence for what is not.

use super::*;

#[test]
fn the_file_of_the_design_is_understood() {
    let home = Home::with(
        "
pool:
  autonomous: {prefix: work-, start_index: 2, max: 3, create: false}
  dedicated: [{session: main, project: /srv/app}, {session: other, project: ~/o}]
  shared_projects_dir: ~/shared
dispatcher:
  projects_dir: ~/projects
  prompt_timeout: 45s
  cooldown: 0s
  max_attempts: 5
  stale_after: 2h 30m
  models: {critical: 'claude-opus-4-1[1m]', default: haiku}
  message: \"Do {task}:\\n{body}\"
agent: {kind: command, command: [codex, exec, ''], shell: /bin/dash, hooks: false, questions: wait}
routing: {auto: {low: gemini, medium: claude-code}}
secutools: {url: 'https://s.example/base/'}
tmux: {command: [tmux, -L, ccl]}
state_dir: state
host: box
",
    );
    let config = home.load();
    assert_eq!(config.file, Some(home.path(".config/ccl/config.yaml")));
    assert_eq!(config.pool.session_names().collect::<Vec<_>>(), ["work-2", "work-3", "work-4"]);
    assert!(!config.pool.create);
    let dedicated: Vec<_> =
        config.dedicated.iter().map(|d| (d.session.as_str(), d.project.clone())).collect();
    assert_eq!(dedicated, [("main", PathBuf::from("/srv/app")), ("other", home.path("o"))]);
    assert_eq!(config.projects, Projects::ChildrenOf(home.path("projects")));
    assert_eq!(config.dispatcher.prompt_timeout, Duration::from_secs(45));
    assert_eq!(config.dispatcher.cooldown, Duration::ZERO);
    assert_eq!(config.dispatcher.max_attempts, 5);
    assert_eq!(config.dispatcher.stale_after, Duration::from_secs(9000));
    assert_eq!(config.dispatcher.models.critical, "claude-opus-4-1[1m]");
    assert_eq!(config.dispatcher.message, "Do {task}:\n{body}");
    assert_eq!(config.agents.first().kind, AgentKind::Command);
    assert_eq!(config.agents.first().command, ["codex", "exec", ""]);
    assert_eq!(config.agents.first().shell(), Path::new("/bin/dash"));
    assert_eq!(config.warnings, [] as [&str; 0]);
    assert!(!config.agents.first().hooks);
    assert_eq!(config.agents.first().questions, Questions::Wait);
    use crate::task::Provider;
    assert_eq!(config.auto_routes.low, Provider::Gemini);
    assert_eq!(config.auto_routes.medium, Provider::ClaudeCode);
    assert_eq!(config.auto_routes.high, Provider::ClaudeApi);
    assert_eq!(config.secutools.unwrap_err(), DelegationOff::NoKey);
    assert_eq!(config.tmux, ["tmux", "-L", "ccl"]);
    assert_eq!(config.state_dir, home.path(".config/ccl/state"), "relative to the file");
    assert_eq!(config.host, "box");
}

#[test]
fn a_file_that_says_nothing_is_all_default() {
    for text in [
        "",
        "\n",
        "# pool:\n",
        "---\n",
        "{}",
        "pool:\ndispatcher:\n  models:\nagent:\ntmux:\n",
        "\u{feff}# bom\n",
    ] {
        let home = Home::with(text);
        let config = home.load();
        assert_eq!(config.pool, PoolConfig::default(), "{text:?}");
        assert_eq!(config.agents.first().command[0], "claude", "{text:?}");
        assert_eq!(config.tmux, ["tmux"], "{text:?}");
        assert!(config.file.is_some());
    }
}

/// Files, each with the sentence that it gets after `HOME/.config/ccl/config.yaml:`.
const BAD: &str = r#"
pol: {}
→ 1:1: unknown key `pol`; did you mean `pool`?

dispatcher:
  cooldwon: 5m
→ 2:3: dispatcher: unknown key `cooldwon`; did you mean `cooldown`?

pool:
  autonomous: {size: 3}
→ 2:16: pool.autonomous: unknown key `size`; there are: prefix, start_index, max, create

agent: {kind: claude}
agent: {}
→ 1:1: there is more than one `agent`

pool: {dedicated: [{session: a, project: /a, x: 1}]}
→ 1:46: pool.dedicated[0]: unknown key `x`; there are: session, project

pool:
  dedicated:
    - session: a
→ 3:7: pool.dedicated[0]: there is no `project`

http: {hosts: [ccl.example, 'http://ccl.example']}
→ 1:29: http.hosts[1]: `http://ccl.example` is not a name such as ccl.example, without http:// and without a port

http: {hosts: ['ccl.example:7433']}
→ 1:16: http.hosts[0]: `ccl.example:7433` is not a name such as ccl.example, without http:// and without a port

routing: {auto: {hgih: gpu}}
→ 1:18: routing.auto: unknown key `hgih`; did you mean `high`?

- a
→ 1:1: invalid type: sequence, expected keys and values

pool: 3
→ 1:7: pool: invalid type: integer `3`, expected keys and values

pool: [
→ 1:7: pool: invalid type: sequence, expected keys and values

a: b: c
→ 1:1: unknown key `a`; there are: pool, dispatcher, agent, agents, failover, reset_further_than, prices, routing, defaults, secutools, remote, tmux, notify, http, state_dir, host

host: a
---
host: b
→  there is more than one YAML document

host: *a
→ 1:7: unknown anchor

pool: {autonomous: {prefix: ''}}
→ 1:29: pool.autonomous.prefix: is empty; tmux sessions need a name, such as ccl-auto-

pool: {autonomous: {prefix: a.b}}
→ 1:29: pool.autonomous.prefix: `a.b` cannot start the name of a tmux session here; use letters, digits, - and _, with no - in front

pool: {autonomous: {prefix: 'a:b'}}
→ 1:29: pool.autonomous.prefix: `a:b` cannot start the name of a tmux session here; use letters, digits, - and _, with no - in front

pool: {autonomous: {prefix: -x}}
→ 1:29: pool.autonomous.prefix: `-x` cannot start the name of a tmux session here; use letters, digits, - and _, with no - in front

pool: {autonomous: {prefix: '#{host}'}}
→ 1:29: pool.autonomous.prefix: `#{host}` cannot start the name of a tmux session here; use letters, digits, - and _, with no - in front

pool: {autonomous: {prefix: "a\eb"}}
→ 1:29: pool.autonomous.prefix: `ab` cannot start the name of a tmux session here; use letters, digits, - and _, with no - in front

pool: {autonomous: {max: 257}}
→ 1:26: pool.autonomous.max: `257` is not a whole number from 0 to 256

pool: {autonomous: {max: -1}}
→ 1:26: pool.autonomous.max: `-1` is not a whole number from 0 to 256

pool: {autonomous: {max: many}}
→ 1:26: pool.autonomous.max: `many` is not a whole number from 0 to 256

pool: {autonomous: {max: [1]}}
→ 1:26: pool.autonomous.max: invalid type: sequence, expected a single value

pool: {autonomous: {start_index: 10000}}
→ 1:34: pool.autonomous.start_index: `10000` is not a whole number from 0 to 9999

pool: {autonomous: {create: yes}}
→ 1:29: pool.autonomous.create: `yes` is neither true nor false

pool:
  dedicated: [{session: ccl-auto-3, project: /a}]
→ 2:3: pool: dedicated[0].session: `ccl-auto-3` is one of the pool's own sessions, which ccl starts agents in; rename it or change autonomous.prefix

pool: {dedicated: [{session: '', project: /a}]}
→ 1:30: pool.dedicated[0].session: is empty

pool: {dedicated: [{session: a, project: ~bob/x}]}
→ 1:42: pool.dedicated[0].project: `~bob/x`: only your own home can be written as ~; give the full path

pool: {shared_projects_dir: }
→ 1:29: pool.shared_projects_dir: is empty

dispatcher:
  prompt_timeout: 30
→ 2:19: dispatcher.prompt_timeout: `30` is not a duration; write it as 30s, 5m or 2h

dispatcher: {prompt_timeout: 0s}
→ 1:30: dispatcher.prompt_timeout: `0s` is out of range; it must lie between 1s and 1h

dispatcher: {prompt_timeout: 61m}
→ 1:30: dispatcher.prompt_timeout: `61m` is out of range; it must lie between 1s and 1h

dispatcher: {cooldown: -5m}
→ 1:24: dispatcher.cooldown: `-5m` is not a duration; write it as 30s, 5m or 2h

dispatcher: {cooldown: 5m ago}
→ 1:24: dispatcher.cooldown: `5m ago` is not a duration; write it as 30s, 5m or 2h

dispatcher: {cooldown: PT5M}
→ 1:24: dispatcher.cooldown: `PT5M` is not a duration; write it as 30s, 5m or 2h

dispatcher: {cooldown: 1w}
→ 1:24: dispatcher.cooldown: `1w` is not a duration; write it as 30s, 5m or 2h

dispatcher: {cooldown: 8d}
→ 1:24: dispatcher.cooldown: `8d` is not a duration; write it as 30s, 5m or 2h

dispatcher: {cooldown: 169h}
→ 1:24: dispatcher.cooldown: `169h` is out of range; it must lie between 0s and 168h

dispatcher: {cooldown: 99999999999999999999h}
→ 1:24: dispatcher.cooldown: `99999999999999999999h` is not a duration; write it as 30s, 5m or 2h

dispatcher: {cooldown: 9999999999999999999h}
→ 1:24: dispatcher.cooldown: `9999999999999999999h` is not a duration; write it as 30s, 5m or 2h

dispatcher: {cooldown: 5µ}
→ 1:24: dispatcher.cooldown: `5µ` is not a duration; write it as 30s, 5m or 2h

dispatcher: {stale_after: 59s}
→ 1:27: dispatcher.stale_after: `59s` is out of range; it must lie between 1m and 8760h

dispatcher: {max_attempts: 0}
→ 1:28: dispatcher.max_attempts: `0` is not a whole number from 1 to 100

dispatcher: {models: {critical: ''}}
→ 1:33: dispatcher.models.critical: is empty; name a model, such as sonnet

dispatcher: {models: {default: --help}}
→ 1:32: dispatcher.models.default: `--help` is not the name of a model

dispatcher: {models: {default: 'a b'}}
→ 1:32: dispatcher.models.default: `a b` is not the name of a model

dispatcher: {message: 'do it'}
→ 1:23: dispatcher.message: has no {body}; the agent would not see the task

dispatcher: {message: '{body} of {title}'}
→ 1:23: dispatcher.message: unknown placeholder {title}; there are {task} and {body}

dispatcher: {message: "{body}\e[201~"}
→ 1:23: dispatcher.message: has the control character \u{1b}

agent: {kind: codex}
→ 1:15: agent.kind: unknown word `codex`; there are: claude, command

agent: {kind: comand, command: [x]}
→ 1:15: agent.kind: unknown word `comand`; did you mean `command`?

agent:
  kind: command
→ 2:3: agent: kind: command needs a command of its own, one that takes a prompt and exits, such as [claude, -p]

agent: {command: claude}
→ 1:18: agent.command: invalid type: string "claude", expected a list of a program and its arguments, such as [claude, --verbose]

agent: {command: []}
→ 1:18: agent.command: the list is empty; it must start with a program

agent: {command: ['']}
→ 1:18: agent.command: the program's name is empty

agent: {command: [a, "b\nc"]}
→ 1:22: agent.command[1]: has the control character \n

agent: {shell: bash}
→ 1:16: agent.shell: `bash` is not an absolute path, such as /bin/bash

agent: {shell: "/bin/a\nb"}
→ 1:16: agent.shell: has the control character \n

agent: {command: [claude, '{prompt}']}
→ 1:8: agent: command: Claude Code takes its prompt as its last argument; take {prompt} out, or set kind: command for another program

agent:
  command: [claude, '--file={prompt_file}']
→ 2:3: agent: command: Claude Code takes its prompt as its last argument; take {prompt_file} out, or set kind: command for another program

agent: {hooks: 1}
→ 1:16: agent.hooks: `1` is neither true nor false

routing: {auto: {low: gpt}}
→ 1:23: routing.auto.low: unknown word `gpt`; did you mean `gpu`?

secutools: {url: s.example}
→ 1:18: secutools.url: is not an address such as https://secutools.example

secutools: {url: 'http://s.example'}
→ 1:18: secutools.url: would send the API key unencrypted; use https (http is for loopback addresses only)

secutools: {url: 'https://me:pw@s.example'}
→ 1:18: secutools.url: has a name or a password in it; take it out and use secutools.api_key_file

secutools: {url: 'https://s.example/?a=b'}
→ 1:18: secutools.url: has a query or a fragment; give the address only

secutools: {url: 'ftp://s.example'}
→ 1:18: secutools.url: is not an address such as https://secutools.example

secutools: {url: 'https://s.example/a b'}
→ 1:18: secutools.url: is not an address such as https://secutools.example

tmux: {command: [tmux, {a: b}]}
→ 1:24: tmux.command[1]: invalid type: map, expected a single value

notify: {on: [done]}
→ 1:9: notify: invalid type: map, expected a sequence

notify: [{on: [dome], command: [a]}]
→ 1:16: notify[0].on[0]: unknown word `dome`; did you mean `done`?

notify:
  - {on: [], command: [a]}
→ 2:5: notify[0]: on: names no occasion; there are done, failed, needs-attention, hold and to-land

notify: [{on: [done]}]
→ 1:10: notify[0]: has neither a command nor a url

notify: [{on: [done], command: [a], url: 'https://n.example'}]
→ 1:10: notify[0]: has a command and a url: make two entries of it

notify: [{on: [done], command: [a], format: json}]
→ 1:10: notify[0]: header_file and format belong to a url: a command is given JSON on its standard input

notify: [{on: [done], url: 'http://n.example/secret'}]
→ 1:28: notify[0].url: is not encrypted; use https (http is for loopback addresses only)

notify: [{on: [done], url: 'https://me:pw@n.example'}]
→ 1:28: notify[0].url: has a name or a password in it; take it out, and write an `Authorization:` line into header_file

state_dir: ''
→ 1:12: state_dir: is empty

state_dir: "a\nb"
→ 1:12: state_dir: has the control character \n

host: ''
→ 1:7: host: is empty

dispatcher: 5m
→ 1:13: dispatcher: invalid type: string "5m", expected keys and values

pool: {dedicated: [main]}
→ 1:20: pool.dedicated[0]: invalid type: string "main", expected a session and its project

secutools: {url: 'https://s.example:99999'}
→ 1:18: secutools.url: is not an address such as https://secutools.example

secutools: {url: 'https://:443'}
→ 1:18: secutools.url: is not an address such as https://secutools.example

secutools: {url: 'http://localhost.s.example'}
→ 1:18: secutools.url: would send the API key unencrypted; use https (http is for loopback addresses only)
"#;

#[test]
fn agents_have_names_and_an_order() {
    let home = Home::with(
        "
agents:
  claude: {}
  key: {api_key_file: ~/key, config_dir: ~/other, env: {AWS_PROFILE: agents, N: 1}, fallback_model: sonnet}
  codex: {kind: command, command: [codex, exec], limit: 'usage limit|rate limit', limit_exit: 75}
failover: [codex, secutools, key]
reset_further_than: 1h
",
    );
    let config = home.load();
    let names: Vec<&str> = config.agents.failover().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["codex", "key"]);
    assert_eq!((config.agents.all().len(), config.agents.secutools_after), (3, Some(1)));
    let [claude, key] = ["claude", "key"].map(|name| config.agents.named(name).unwrap());
    assert_eq!(key.api_key_file, Some(home.path("key")));
    assert_eq!(key.claude.config_dir(), Some(home.path("other").as_path()));
    assert_eq!(key.env["N"], "1");
    assert_eq!(claude.claude.directory, home.path(".claude"));
    assert_eq!(claude.claude.state, home.path(".claude.json"));
    assert!(config.agents.first().limit.as_ref().unwrap().is_in("a\nUsage Limit reached\n"));
    // The first takes all of it where nothing is said.
    let config = Home::with("agents: {b: {}, a: {env: {X: y}}}").load();
    let names: Vec<&str> = config.agents.failover().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn agents_that_do_not_fit_are_refused() {
    for (text, sentence) in [
        ("agent: {}\nagents: {a: {}}", "`agent` and `agents` are both given"),
        ("agents: {}", "agents: there is none"),
        ("agents: {a b: {}}", "`a b` is no name for an agent"),
        ("agents: {secutools: {}}", "the name of a provider"),
        ("agents: {remote: {}}", "the name of a provider"),
        ("agents: {a: {}}\nfailover: [a, remote]", "there is no agent `remote`"),
        ("agents: {a: {}}\nfailover: [b]", "failover: there is no agent `b`; there are: a"),
        ("agents: {a: {}}\nfailover: [a, a]", "`a` stands there twice"),
        (
            "agents: {a: {}}\nfailover: [secutools]",
            "name an agent of this machine that comes first",
        ),
        (
            "agents: {a: {command: [x], kind: command, config_dir: /x}}",
            "config_dir: only Claude Code",
        ),
        ("agents: {a: {limit: x}}", "limit: Claude Code says itself"),
        ("agents: {a: {kind: command, command: [x], limit: '('}}", "is no regular expression"),
        ("agents: {a: {env: {1A: b}}}", "`1A` is no name of a variable"),
        ("agents: {a: {kind: command, command: [x], limit_exit: 0}}", "limit_exit"),
        (
            "agents: {a: {config_dir: /x}, b: {config_dir: /y}}\nfailover: [a, b]",
            "does not switch between logins",
        ),
        (
            "agents: {a: {config_dir: /x, hooks: false, budget: {per_day: 1 USD}}, b: {questions: wait}}\nfailover: [a, b]",
            "does not switch between logins",
        ),
        (
            "agents: {a: {env: {CLAUDE_CODE_OAUTH_TOKEN: x, N: 1}}, b: {env: {N: 1}}}\nfailover: [b, a]",
            "does not switch between logins",
        ),
        (
            "agents: {a: {kind: command, command: [x], env: {CLAUDE_CONFIG_DIR: /x}}, b: {kind: command, command: [x]}}\nfailover: [b, a]",
            "does not switch between logins",
        ),
        ("agents: {a: {env: {CLAUDE_CONFIG_DIR: /x}}}", "use config_dir in its place"),
        ("agent: {budget: {per_day: 10 EUR}}", "budget.per_day: Claude Code says in USD"),
        ("agent: {budget: {per_task: 10 EUR}}", "budget.per_task: Claude Code says in USD"),
        (
            "agents: {a: {kind: command, command: [x], budget: {per_task: 1 USD}}}",
            "budget: nothing says what the runs of a program cost",
        ),
        ("secutools: {budget: {per_task: 1 EUR}}", "budget.per_task: a job cannot be ended"),
    ] {
        let error = Home::with(text).load_with(&Overrides::default()).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(sentence), "{text}: {error}");
    }
    for fits in [
        // Pinned by project they are what config_dir is for.
        "agents: {a: {config_dir: /x}, b: {config_dir: /y}}",
        // Not the same: it has a key of the user's own.
        "agents: {a: {}, b: {config_dir: /y, api_key_file: /k}}\nfailover: [a, b]",
        "agents: {a: {}, b: {env: {CLAUDE_CODE_USE_BEDROCK: 1}}}\nfailover: [a, b]",
        "agent: {budget: {per_day: 10 USD, per_task: 3 USD}}",
        "secutools: {budget: {per_day: 10 EUR}}",
    ] {
        Home::with(fits).load();
    }
}

#[test]
fn a_command_may_say_where_the_prompt_goes() {
    let text =
        "agent: {kind: command, command: [aider, '--message-file={prompt_file}', '{prompt}']}";
    let command = Home::with(text).load().agents.first().command.clone();
    assert_eq!(command, ["aider", "--message-file={prompt_file}", "{prompt}"]);
}

#[test]
fn a_delivery_is_ignored_with_a_warning_that_says_what_to_do() {
    for value in ["argument", "paste", "mail", "", "3", "[a]", "{a: b}", "!x y"] {
        let home = Home::with(&format!("host: box\nagent:\n  hooks: false\n  delivery: {value}\n"));
        let config = home.load();
        assert!(!config.agents.first().hooks);
        let [warning] = &config.warnings[..] else { panic!("{value}: {:?}", config.warnings) };
        let warning = warning.replace(home.path("").to_str().unwrap(), "HOME/");
        // A missing value stands behind the colon.
        let place = if value.is_empty() { "4:12" } else { "4:13" };
        assert_eq!(
            warning,
            format!(
                "HOME/.config/ccl/config.yaml:{place}: agent.delivery is ignored, remove it: \
                 the prompt is the agent's last argument; \
                 write {{prompt}} or {{prompt_file}} in agent.command to put it elsewhere"
            )
        );
    }
}

#[test]
fn every_bad_key_and_value_gets_its_sentence() {
    for block in BAD.trim().split("\n\n") {
        let (text, sentence) = block.split_once("\n→ ").unwrap();
        assert_eq!(
            Home::with(text).complaint(),
            format!("HOME/.config/ccl/config.yaml:{sentence}"),
            "{text}"
        );
    }
}
