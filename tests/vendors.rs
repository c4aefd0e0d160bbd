//! Other vendors' agents from npm, as agents of kind `command`, against a stand-in of their APIs: what arrives there, and
//! that the ready-made values of `limit` know the words with which each of them ends at its limit.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::sandbox::ending_line;
use support::vendors::VendorsApi;
use support::{Project, Sandbox, TmuxServer, npm, wait_until};

const SESSION: &str = "ccl-auto-0";
/// The largest of them takes ten seconds to start, on a loaded machine ten times as long.
const LONG: Duration = Duration::from_secs(240);

/// What the README says of the agent.
#[track_caller]
fn readme(agent: &str) -> Value {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = text.split("\n## When an account is at its limit\n").nth(1).unwrap();
    let example = section.split("```").nth(1).unwrap().strip_prefix("yaml\n").unwrap();
    let example: Value = serde_yaml::from_str(example).unwrap();
    let agent = example["agents"][agent].clone();
    assert!(agent["limit"].is_string(), "{example:#}");
    agent
}

/// One agent that asks the stand-in.
struct World {
    sandbox: Sandbox,
    tmux: TmuxServer,
    project: Project,
    api: VendorsApi,
    name: &'static str,
}

impl World {
    /// `agent` is what the configuration says of it, but for its kind.
    fn new(name: &'static str, agent: impl FnOnce(&VendorsApi, &Sandbox) -> Value) -> Self {
        let mut sandbox = Sandbox::new();
        let project = sandbox.project("web");
        project.init_git();
        let tmux = sandbox.tmux_with(|builder| {
            let nowhere = "http://127.0.0.1:9";
            let proxies = ["HTTPS_PROXY", "https_proxy"].map(|key| (key, nowhere));
            // What is asked besides the API is not there.
            builder.envs(proxies).envs(["NO_PROXY", "no_proxy"].map(|key| (key, "127.0.0.1")))
        });
        let api = VendorsApi::start();
        let mut agent = agent(&api, &sandbox);
        agent["kind"] = json!("command");
        agent["limit"] = readme(name)["limit"].clone();
        sandbox.config("agents", json!({name: agent}));
        sandbox.config("pool", json!({"autonomous": {"max": 1}}));
        sandbox.config("dispatcher", json!({"max_attempts": 1}));
        Self { sandbox, tmux, project, api, name }
    }

    #[track_caller]
    fn pass(&self, verb: &str) -> Vec<String> {
        let report = self.sandbox.ccl_json(&[verb]);
        let events = report["events"].as_array().unwrap().iter();
        events.map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    }

    /// Gives the waiting task to the agent, and returns the agent's last screen and what came of it.
    #[track_caller]
    fn run(&self) -> (String, Vec<String>) {
        assert_eq!(self.pass("scan"), ["dispatched"]);
        let exit = self.sandbox.session_file(SESSION, "exit");
        wait_until("the agent ends", LONG, || exit.exists());
        let screen = self.tmux.screens();
        (screen, self.pass("reap"))
    }

    fn hold_file(&self) -> PathBuf {
        self.sandbox.state_dir().join(format!("agents/{}.hold", self.name))
    }

    /// A task is done; another one meets each of the limits, and is done once they are over.
    #[track_caller]
    fn play(&self, limits: &[Value]) {
        self.project.drop_task("one.md", "Fix the first thing.\n");
        let (screen, events) = self.run();
        assert_eq!(events, ["done"], "{screen}");
        assert!(self.api.asked("Fix the first thing.") > 0, "{screen}");
        assert!(screen.contains("It is done."), "{screen}");

        self.project.drop_task("two.md", "Fix the second thing.\n");
        for limit in limits {
            self.api.limit(Some(limit.clone()));
            let (screen, events) = self.run();
            assert_eq!(events, ["released", "hold"], "{limit}\n{screen}");
            let ending = ending_line(&self.project.read("inbox/two.md")).unwrap();
            assert_eq!(ending["attempt"], 0, "{ending:?}");
            assert_eq!(self.pass("scan"), [""; 0], "it is held");
            let mut hold: Value =
                serde_json::from_slice(&fs::read(self.hold_file()).unwrap()).unwrap();
            hold["until"] = json!(Timestamp::now() - SignedDuration::from_secs(1));
            fs::write(self.hold_file(), hold.to_string()).unwrap();
        }
        self.api.limit(None);
        let (screen, events) = self.run();
        assert_eq!(events, ["resumed", "done"], "{screen}");
        assert!(self.api.asked("Fix the second thing.") > limits.len(), "{screen}");
        assert!(!self.hold_file().exists());
    }
}

#[test]
fn codex() {
    let bin = npm::install("@openai/codex", "0.171.0", "vendors/codex");
    let world = World::new("codex", |api, _| {
        let provider = format!(
            "model_providers.local={{name=\"local\",base_url=\"{}/v1\",env_key=\"OPENAI_API_KEY\",wire_api=\"responses\",request_max_retries=0}}",
            api.url()
        );
        json!({
            "command": [bin.join("codex"), "exec", "--sandbox", "workspace-write",
                        "-c", "model_provider=\"local\"", "-c", provider],
            "env": {"OPENAI_API_KEY": "k"},
        })
    });
    let in_two_hours = Timestamp::now().as_second() + 7200;
    world.play(&[
        json!({"error": {"type": "usage_limit_reached", "message": "The usage limit has been reached",
            "plan_type": "plus", "resets_at": in_two_hours, "resets_in_seconds": 7200}}),
        json!({"error": {"type": "insufficient_quota", "code": "insufficient_quota",
            "message": "You exceeded your current quota, please check your plan and billing details."}}),
        json!({"error": {"type": "requests", "code": "rate_limit_exceeded",
            "message": "Rate limit reached for gpt-5 on requests per min (RPM): Limit 3, Used 3."}}),
    ]);
}

#[test]
fn gemini() {
    let bin = npm::install("@google/gemini-cli", "0.61.0", "vendors/gemini");
    let world = World::new("gemini", |api, sandbox| {
        let settings = sandbox.home().join(".gemini");
        fs::create_dir(&settings).unwrap();
        // With a base URL in its environment it would choose a way that it does not know itself.
        let chosen = json!({"security": {"auth": {"selectedType": "gemini-api-key"}}});
        fs::write(settings.join("settings.json"), chosen.to_string()).unwrap();
        json!({
            "command": [bin.join("gemini"), "-m", "gemini-2.5-pro", "--yolo", "-p"],
            "env": {"GEMINI_API_KEY": "k", "GEMINI_CLI_TRUST_WORKSPACE": "true",
                    "GOOGLE_GEMINI_BASE_URL": api.url()},
        })
    });
    let quota = json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "50"}]});
    world.play(&[json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED",
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "details": [quota]}})]);
}

#[test]
fn opencode() {
    let (version, script) = ("1.18.33", "postinstall.mjs");
    let root = "vendors/opencode";
    let bin = npm::install_and_run("opencode-ai", version, root, Some(script));
    let world = World::new("opencode", |api, _| {
        let options = json!({"baseURL": format!("{}/v1", api.url()), "apiKey": "k"});
        let provider = json!({"npm": "@ai-sdk/openai-compatible", "name": "local",
            "options": options, "models": {"m": {"name": "m"}}});
        let config =
            json!({"model": "local/m", "autoupdate": false, "provider": {"local": provider}});
        json!({
            "command": [bin.join("opencode"), "run"],
            "env": {"OPENCODE_CONFIG_CONTENT": config.to_string(), "OPENCODE_DISABLE_MODELS_FETCH": "1",
                    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1"},
        })
    });
    // It tries again for a while, and shows the API's own words then.
    world.play(&[json!({"error": {"type": "insufficient_quota", "code": "insufficient_quota",
        "message": "You exceeded your current quota, please check your plan and billing details."}})]);
}
