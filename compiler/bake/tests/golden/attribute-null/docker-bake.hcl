target "default" { tags = [null] }
