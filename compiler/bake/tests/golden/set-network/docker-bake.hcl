target "default" { network = "none" }
