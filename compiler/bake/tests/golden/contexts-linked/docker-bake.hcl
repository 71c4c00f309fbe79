target "base" {
  output = ["type=image"]
  entitlements = ["network.host"]
  platforms = ["linux/amd64", "linux/arm64"]
}
target "mid" { contexts = { base = "target:base" } }
target "default" {
  contexts = { m = "target:mid", alpine = "docker-image://alpine:3", src = "./src" }
  platforms = ["linux/amd64", "linux/arm64"]
}
