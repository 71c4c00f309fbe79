target "default" { args = { A = jsonencode(true ? 1 : "a"), B = jsonencode(true ? [1] : ["a", "b"]), C = jsonencode(true ? null : "x") } }
