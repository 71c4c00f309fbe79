target "a" {
  cache-from = ["one", "two"]
  cache-to = ["x"]
  output = ["type=local,dest=a"]
  platforms = ["linux/arm64"]
}
target "b" { cache-from = ["two", "three", "one", "three"] }
target "default" {
  inherits = ["a", "b"]
  cache-from = ["four", "one"]
  output = ["type=docker", "type=image", "type=docker"]
}
