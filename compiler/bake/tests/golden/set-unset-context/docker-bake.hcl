target "default" { contexts = { a = "b", c = "d" } }
