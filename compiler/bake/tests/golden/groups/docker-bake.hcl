group "default" { targets = ["all", "c"] }
group "all" {
  description = "both"
  targets = ["b", "a", "b"]
}
target "a" {}
target "b" {}
target "c" {}
target "d" {}
