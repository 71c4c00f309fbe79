target "default" { annotations = ["x"] }
