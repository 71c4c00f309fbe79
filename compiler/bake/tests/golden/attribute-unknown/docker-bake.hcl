target "default" { contxt = "x" }
