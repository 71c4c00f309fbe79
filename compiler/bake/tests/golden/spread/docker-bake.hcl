target "default" { args = { A = max([1, 3, 2]...), B = format("%s-%s", ["a", "b"]...) } }
