target "default" { args = { A = "5" + 1, B = "2" * "3", C = "10" > 9 } }
