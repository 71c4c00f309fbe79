target "app-a" {}
target "app-b" {}
target "lib" {}
group "default" { targets = ["app-a", "app-b", "lib"] }
