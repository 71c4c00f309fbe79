#compdef rb
# Completion of rb for zsh: `source <(rb completion zsh)` in ~/.zshrc behind compinit, or this text in a file `_rb` in a
# folder of $fpath

_rb() {
    local -a answer glued plain
    local line word text kind before tab=$'\t'
    answer=("${(@f)$(command rb __complete zsh "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    kind=${answer[1]%%$tab*} before=${answer[1]#*$tab}
    case $kind in
    files|folders)
        [[ -n $before ]] && compset -P "${(b)before}"
        if [[ $kind == files ]]; then _files; else _files -/; fi
        return
        ;;
    words) ;;
    *) return 1 ;;
    esac
    for line in "${(@)answer[2,-1]}"; do
        word=${line%%$tab*} text=${line#*$tab}
        line="${${word//\\/\\\\}//:/\\:}${text:+:$text}"
        if [[ $word == *[=/+,:] ]]; then glued+=("$line"); else plain+=("$line"); fi
    done
    (( $#plain )) && _describe -V -t words rb plain
    (( $#glued )) && _describe -V -t glued rb glued -S ''
    (( $#plain + $#glued ))
}

if [[ ${funcstack[1]} == _rb ]]; then _rb "$@"; else compdef _rb rb; fi
