target "default" { tags = [["a"][1]] }
