#!/bin/sh
# Reads `name number` lines and writes them as constants, one file a language, into the folder it is given.
set -eu
out=$1
note='generated from contract/limits.txt'
echo "/* $note */" >"$out/limits.h"
printf '// Package limits is %s.\npackage limits\n' "$note" >"$out/limits.go"
echo "// $note" >"$out/limits.mjs"
echo "\"\"\"$note\"\"\"" >"$out/limits.py"
grep -v '^#' | while read -r name number; do
    upper=$(echo "$name" | tr '[:lower:]' '[:upper:]')
    echo "enum { ${upper}_LIMIT = $number };" >>"$out/limits.h"
    first=${upper%"${upper#?}"}
    printf '\n// %s is in characters.\nconst %s = %s\n' "$first${name#?}" "$first${name#?}" "$number" >>"$out/limits.go"
    echo "export const ${name} = $number;" >>"$out/limits.mjs"
    echo "${upper} = $number" >>"$out/limits.py"
done
