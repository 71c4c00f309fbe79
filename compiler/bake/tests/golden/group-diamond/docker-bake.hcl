group "default" { targets = ["l", "r"] }
group "l" { targets = ["a", "b"] }
group "r" { targets = ["b", "c"] }
target "a" {}
target "b" {}
target "c" {}
