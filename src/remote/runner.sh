# The runner of a job: claims the run, has the agent work, hands in what came of it.
# It ends with the status of the agent, or with
# 74: what came of it, or a part of that, could not be handed in, and lies here;
# 75: somebody else has the run, or it is over;
# 76: it was taken away meanwhile.
set -u
exec </dev/null
url=$1 key=$2 directory=$3 limit=$4 task=$5 origin=$6 lfs=$7 submodules=$8 check=$9
shift 9
check_limit=$1 protect=$2 keys=$3
shift 3
unset RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH
base=refs/ccl/$key/base run=refs/ccl/$key/run exit=0 red=0 checked= failed= result= left=
host=$(uname -n | tr -cd 'A-Za-z0-9._-')
work=$(mktemp -d "${TMPDIR:-/tmp}/ccl-XXXXXX") || exit 75
trap 'rm -rf "$work"' EXIT
trap 'exit 143' HUP INT TERM
tree=$work/tree patience=600 place=$work
# The path is written into JSON as it is: one that would have to be escaped is left out.
case $work in *[!A-Za-z0-9._/-]*) place= ;; esac
# A git that hangs is ended by timeout, and git does not walk up into a repository around this directory.
g() {
    GIT_TERMINAL_PROMPT=0 GIT_CEILING_DIRECTORIES="$work" timeout -k 10 "$patience" git -C "$tree" \
        -c core.hooksPath=/dev/null -c user.name=ccl -c user.email=ccl@localhost \
        -c commit.gpgSign=false -c gc.auto=0 -c maintenance.auto=false \
        -c push.followTags=false -c push.gpgSign=false -c push.recurseSubmodules=no "$@"
}
tip() { list=$(g ls-remote "$url" "$1") && printf %s "${list%%[!0-9a-f]*}"; }
move() { g push -q --force-with-lease="$run:$1" "$url" "$2:$run"; }

git init -q "$tree" && g fetch -q --no-tags "$url" "+$base:$base" || exit 75
given=$(g rev-parse "$base") && head=$(g rev-parse "$base^") || exit 75
claim=$(g commit-tree "$base^{tree}" -p "$base" \
    -m "{\"version\":1,\"claim\":\"$(od -An -N16 -tx1 /dev/urandom | tr -cd 0-9a-f)\",\"host\":\"$host\",\"directory\":\"$place\"}") || exit 75
move '' "$claim" || [ "$(tip "$run")" = "$claim" ] || exit 75
# A ref keeps the claim: the agent may run git gc, which throws away what nothing refers to.
g update-ref "refs/ccl/$key/claim" "$claim"
# A run that was filed meanwhile has no refs any more: then the claim has just made one anew, and it is removed again.
[ "$(tip "$base")" = "$given" ] || { g push -q --force-with-lease="$run:$claim" "$url" ":$run"; exit 75; }

patience=7200
: >"$work/output"
{
    { [ -z "$origin" ] || g remote add origin "$origin"; } && g checkout -q -b work "$head" &&
        { [ "$lfs" = false ] || g lfs pull; } &&
        { [ "$submodules" = false ] || g submodule update -q --init --recursive; } && cd "$tree/$directory"
} 2>"$work/errors" || exit=125 failed=checkout
patience=600
commit=$head
# From here on nothing is thrown away that somebody may want: lies() keeps the directory and says where it is.
lies() {
    trap - EXIT HUP INT TERM
    echo "ccl: what came of $task $1: it lies on $host in $tree, commit $commit and what is not committed" >&2
}
keep() {
    lies "cannot be handed in to $url"
    [ -z "$result" ] || echo "ccl: until the task is filed, this hands it in: git -C $tree push --force-with-lease=$run:$claim $url $result:$run" >&2
    exit 74
}
g cat-file commit "$base" | sed '1,/^$/d' >"$work/prompt"
if [ -z "$failed" ]; then
    trap keep HUP INT TERM
    began=$(date +%s)
    timeout --foreground -k 30 "$limit" "$@" <"$work/prompt" >"$work/output" 2>"$work/errors" || exit=$?
    # The agent may end with one of these itself: the time that has passed, or a message of timeout, shows which it is.
    case $exit in
        124 | 137) [ $(($(date +%s) - began)) -lt "${limit%s}" ] || failed=time ;;
        127) [ "$(head -c 8 "$work/errors")" != timeout: ] || failed=program ;;
    esac
fi
cd "$tree" && rm -f .git/index.lock .git/HEAD.lock .git/packed-refs.lock
ours() { g "$@" -- ':(top)' ':(exclude,top,glob)**/.agent-queue/**'; }
made=$(g rev-parse -q --verify HEAD) || made=
unmerged=$(g ls-files -u)
[ "$failed" = checkout ] || {
    # Also files that the agent has told its git not to look at.
    g -c core.sparseCheckout=true update-index -q --really-refresh
    # A file that git cannot take, an unreadable one, say, does not keep the others out.
    ours add --all || ours add --all --ignore-errors
    g diff --cached --quiet || g commit -q --no-verify -m "ccl: what $task left uncommitted"
} >/dev/null 2>>"$work/errors"
commit=$(g rev-parse --verify -q HEAD) || commit=$head

# left: what the agent has made and the commit lacks: files; a repository of its own; commits on other branches only.
if [ "$failed" != checkout ]; then
    loose=$(ours status --porcelain --untracked-files=normal --ignore-submodules=dirty) && [ -z "$loose" ] || left="not committed: ${loose:-git cannot say what}"
    # A repository within the repository that is neither a submodule nor a worktree of what is handed in.
    for link in $(g diff --raw --no-renames --no-abbrev --ignore-submodules=none --diff-filter=AT "$head" "$commit" | sed -n 's/^:[0-7]* 160000 [0-9a-f]* \([0-9a-f]*\) .*/\1/p'); do
        path=$(g ls-tree -r -z "$commit" | tr '\0' '\n' | sed -n "s/^160000 commit $link	//p" | head -n 1)
        g config --blob "$commit:.gitmodules" --get-regexp '^submodule\..*\.path$' | grep -qF " $path" ||
            g merge-base --is-ancestor "$link" "$commit" || left='a repository within the repository'
    done
    # Of a file in LFS the commit holds a pointer only.
    [ ! -d .git/lfs/objects ] || [ -z "$(g diff --no-ext-diff --no-textconv --name-only -M -G'^oid sha256:[0-9a-f]{64}$' "$head" "$commit")" ] ||
        left='the content of files that are kept with git lfs'
    [ -z "$(g submodule foreach -q --recursive 'git status --porcelain -uno; git rev-list -n 1 HEAD --branches --not --remotes --tags')" ] ||
        left='within a submodule'
    [ "$(ls -A "$work" | grep -cvx 'tree\|output\|errors\|prompt')" = 0 ] || left="beside the project's directory"
    [ ! -d .git/rebase-merge ] && [ ! -d .git/rebase-apply ] && [ -z "$unmerged" ] || left='an unfinished merge or rebase'
    [ "$made" != "$head" ] || [ -z "$(g rev-list -n 1 --branches --tags --reflog --not "$head" "$commit" --remotes)" ] || left='on other branches only'
    # A side branch or a stash may be in the commit already, squashed: the directory is kept, but that is no failure.
    [ -z "$(g rev-list -n 1 --branches $(g rev-parse -q --verify refs/stash) --not "$commit" --remotes)" ] || trap - EXIT
fi 2>>"$work/errors"
if [ -n "$left" ]; then
    trap - EXIT
    echo "ccl: $(printf %s "$left" | tr '\n' ' ')" >>"$work/errors"
    left=",\"directory\":\"$place\""
fi

if [ -n "$check" ] && [ $exit = 0 ] && [ -z "$left" ]; then
    began=$(date +%s) judged=$tree
    if [ -n "$protect" ]; then
        # What is protected is as it was before the agent came.
        judged=$work/judged
        g worktree add -q --detach "$judged" "$commit" || red=125
        (
            cd "$judged" && set -f && IFS='
' && for glob in $protect; do
                git rm -rqf --ignore-unmatch -- ":(top,glob)$glob"
                git checkout -q "$head" -- ":(top,glob)$glob"
            done
        ) 2>/dev/null
    fi
    (
        unset $keys
        export CCL_TASK="$task" CCL_BASE="$head"
        [ $red = 0 ] && cd "$judged/$directory" && timeout -k 10 "$check_limit" sh -c "$check"
    ) >"$work/check" 2>&1 || red=$?
    tail -c 16384 "$work/check" >"$work/tail" && mv "$work/tail" "$work/check"
    checked=",\"check\":{\"exit\":$red,\"seconds\":$(($(date +%s) - began))}"
fi

cd "$work" && for file in output errors check; do
    [ ! -e "$file" ] || printf '100644 blob %s\t%s\n' "$(head -c 8388608 "$file" | g hash-object -w --stdin)" "$file" || echo bad
done >entries || keep
[ -z "$failed" ] || failed=",\"failed\":\"$failed\""
result=$(g commit-tree "$(g mktree <entries)" -p "$claim" -p "$commit" \
    -m "{\"version\":1,\"exit\":$exit,\"host\":\"$host\",\"work\":\"$commit\"$failed$checked$left}") || keep
[ $exit != 0 ] || exit=$red
[ $exit != 0 ] || [ -z "$left" ] || exit=74
for pause in 0 2 10 30 60 120 300 600; do
    sleep "$pause"
    move "$claim" "$result" && exit "$exit"
    now=$(tip "$run") || continue
    [ "$now" != "$result" ] || exit "$exit"
    [ "$now" = "$claim" ] || { [ "$commit$left" = "$head" ] || lies 'is not wanted any more'; exit 76; }
done
keep
