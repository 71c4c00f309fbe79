target "default" { args = { A = "x" ? 1 : 2 } }
