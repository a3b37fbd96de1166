"""``completion``: shell scripts that complete ``kubectl-imagewright`` by running ``kubectl_complete-imagewright``.

I/O: writes to standard output.
"""

from __future__ import annotations

import argparse

_BASH = """# bash completion of kubectl-imagewright: source <(kubectl imagewright completion bash)
_kubectl_imagewright() {
    local answer line
    COMPREPLY=()
    # bash splits a word with = into three.
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}") unfinished="${COMP_WORDS[COMP_CWORD]}"
    [ "$unfinished" = "=" ] && unfinished=""
    answer=$(kubectl_complete-imagewright "${words[@]}" 2>/dev/null) || return
    while IFS=$'\\t' read -r line _; do
        case "$line" in
            :0) ;;
            :*) compopt +o default 2>/dev/null ;;
            "$unfinished"*) COMPREPLY+=("$line") ;;
        esac
    done <<<"$answer"
}
complete -o default -F _kubectl_imagewright kubectl-imagewright
"""

_ZSH = """#compdef kubectl-imagewright
# zsh completion of kubectl-imagewright: source <(kubectl imagewright completion zsh)
_kubectl_imagewright() {
    local -a answer candidates
    local line
    answer=("${(@f)$(kubectl_complete-imagewright "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in "${(@)answer[1,-2]}"; do
        candidates+=("${${line//:/\\\\:}/$'\\t'/:}")
    done
    if [[ "${answer[-1]}" == ":0" ]]; then
        _files
    else
        _describe imagewright candidates
    fi
}
compdef _kubectl_imagewright kubectl-imagewright
"""

_FISH = """# fish completion of kubectl-imagewright: kubectl imagewright completion fish | source
function __kubectl_imagewright
    set -l words (commandline -opc) (commandline -ct)
    set -l answer (kubectl_complete-imagewright $words[2..-1] 2>/dev/null)
    if test "$answer[-1]" = ":0"
        __fish_complete_path (commandline -ct)
    else
        string match -v ':*' -- $answer
    end
end
complete -c kubectl-imagewright -f -a '(__kubectl_imagewright)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def run(options: argparse.Namespace) -> int:
    """``completion SHELL``: print the script; 0."""
    print(SCRIPTS[options.shell], end="")
    return 0
