target "default" {
  annotations = ["index,manifest:org.x=${"$"}{y}", "a=b"]
  attest = [{ type = "provenance", mode = "max" }, { type = "sbom", disabled = true }]
  cache-from = [{ type = "registry", ref = "r" }, "type=local,src=x", "a,b"]
  cache-to = [{ type = "inline" }, { type = "gha", mode = "max", scope = "s" }]
  call = "check"
  dockerfile-inline = "FROM alpine\nRUN echo $${x}"
  entitlements = ["network.host"]
  extra-hosts = { my = "8.8.8.8" }
  network = "host"
  no-cache = true
  no-cache-filter = ["a"]
  output = [{ type = "local", dest = "out" }, "dist", "-", "type=image,push=true"]
  platforms = ["linux/amd64", "linux/arm/v7", "linux/amd64"]
  policy = [{ filename = "p.rego", strict = true, log-level = "debug" }, "reset=true"]
  pull = true
  resources = { memory = "1g", cpu-shares = 512, cpuset-cpus = "0-1" }
  secret = [{ id = "a", env = "A" }, "type=env,id=b,src=B", "id=c,env=CC"]
  shm-size = "128m"
  ssh = ["default", { id = "gh" }]
  tags = ["x:1"]
  target = "stage"
  ulimits = ["nofile=1024:1024", "nproc=3"]
}
