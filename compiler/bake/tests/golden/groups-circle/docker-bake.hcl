group "one" { targets = ["two", "a"] }
group "two" { targets = ["one", "b"] }
target "a" {}
target "b" {}
