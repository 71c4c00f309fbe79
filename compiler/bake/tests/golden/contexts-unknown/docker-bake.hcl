target "default" { contexts = { b = "target:nope" } }
