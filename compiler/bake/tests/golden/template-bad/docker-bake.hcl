target "default" { tags = ["${[1]}x"] }
