target "base" {
  args = { A = "1", B = "1" }
  tags = ["base"]
  platforms = ["linux/amd64"]
  cache-from = ["x", "type=local,src=y"]
  cache-to = ["type=inline"]
  output = ["type=docker"]
  annotations = ["a=b"]
  secret = ["id=one,env=A"]
  ssh = ["default"]
  attest = ["type=sbom", "type=provenance,mode=min"]
  no-cache-filter = ["s"]
  ulimits = ["nofile=1:1"]
  entitlements = ["security.insecure"]
  extra-hosts = { a = "1.1.1.1" }
  contexts = { x = "y", gone = "z" }
  shm-size = "64m"
  network = "none"
  description = "base"
}
target "mixin" {
  args = { B = "2", C = "2" }
  no-cache = true
  labels = { m = "1" }
}
target "default" {
  inherits = ["base", "mixin"]
  args = { C = "3" }
  tags = []
  cache-from = ["z", "x"]
  annotations = ["c=d", "a=b"]
  secret = ["id=one,env=E", "id=two,env=B"]
  ssh = [{ id = "k" }]
  attest = ["type=provenance,disabled=true"]
  no-cache-filter = ["t", "s"]
  ulimits = ["nproc=2:3"]
  extra-hosts = { b = "2.2.2.2" }
  contexts = { gone = "" }
}
