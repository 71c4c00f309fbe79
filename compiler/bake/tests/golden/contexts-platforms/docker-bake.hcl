target "base" { platforms = ["linux/amd64", "linux/arm64"] }
target "default" {
  contexts = { b = "target:base" }
  platforms = ["linux/amd64", "linux/riscv64"]
}
