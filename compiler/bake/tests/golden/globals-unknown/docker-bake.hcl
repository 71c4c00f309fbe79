target "default" { tags = [nope] }
