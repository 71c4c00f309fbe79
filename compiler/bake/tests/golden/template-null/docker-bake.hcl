target "default" { tags = ["x${null}"] }
