name = "app"
full = "${name}:1"
target "default" { tags = [full] }
