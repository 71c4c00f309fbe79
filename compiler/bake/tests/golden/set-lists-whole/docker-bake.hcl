target "default" {
  ulimits = ["nofile=1:2"]
  no-cache-filter = ["a"]
}
