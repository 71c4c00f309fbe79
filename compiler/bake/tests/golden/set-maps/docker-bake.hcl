target "base" { tags = ["base"] }
target "app" {
  inherits = ["base"]
  cache-from = ["one"]
  secret = ["id=s,env=FIRST"]
  args = { A = "1" }
  output = ["type=image", "type=local,dest=o"]
}
target "lib" { output = ["type=docker"] }
group "default" { targets = ["app", "lib"] }
