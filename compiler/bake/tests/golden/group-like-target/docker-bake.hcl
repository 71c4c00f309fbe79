group "foo" { targets = ["foo", "bar"] }
target "foo" { tags = ["f"] }
target "bar" {}
