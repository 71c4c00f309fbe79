# Completion of rb for bash 4.4 or newer: `source <(rb completion bash)` in ~/.bashrc, or this text in
# ~/.local/share/bash-completion/completions/rb

_rb() {
    local line kind= before= glued=
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $kind ]]; then
            kind=${line%%$'\t'*} before=${line#"$kind"} before=${before#$'\t'}
        else
            COMPREPLY+=("$line")
            [[ $line == *[=/+,:] ]] && glued=1
        fi
    done < <(command rb __complete bash "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
    case $kind in
    files)
        # With `=` among COMP_WORDBREAKS nothing stands before the path, and bash knows best how to quote one.
        if [[ -z $before ]]; then compopt -o default 2>/dev/null
        else mapfile -t COMPREPLY < <(compgen -P "$before" -f -- "${2#"$before"}"); fi
        ;;
    folders)
        if [[ -z $before ]]; then compopt -o dirnames 2>/dev/null
        else mapfile -t COMPREPLY < <(compgen -P "$before" -d -- "${2#"$before"}"); fi
        ;;
    *)
        if [[ -n $glued ]]; then compopt -o nospace 2>/dev/null; fi
        ;;
    esac
    return 0
}

complete -o nosort -F _rb rb
