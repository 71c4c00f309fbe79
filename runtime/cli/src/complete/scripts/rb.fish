# Completion of rb for fish: this text in ~/.config/fish/completions/rb.fish, or `rb completion fish | source`

function __rb_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l token (commandline --current-token --cut-at-cursor)
    set -l word (string unescape -- $token; or string replace --regex '^[\'"]' '' -- $token)
    set -l answer (command rb __complete fish $words "$word" 2>/dev/null)
    or return
    set -l head (string split --max 1 \t -- "$answer[1]")
    set -l before "$head[2]"
    set -l rest (string sub --start (math (string length -- "$before") + 1) -- "$word")
    switch "$head[1]"
        case words
            test (count $answer) -gt 1
            and printf '%s\n' $answer[2..-1]
        case files
            for path in (__fish_complete_path "$rest")
                printf '%s\n' "$before$path"
            end
        case folders
            for path in (__fish_complete_directories "$rest" '')
                printf '%s\n' "$before$path"
            end
    end
end

complete --command rb --no-files --keep-order --arguments '(__rb_complete)'
