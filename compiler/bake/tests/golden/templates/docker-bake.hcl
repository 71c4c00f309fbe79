variable "L" { default = ["a", "b"] }
target "default" {
  args = {
    A = "x${1 + 1}y${true}z"
    B = "${L[0]}"
    C = "%{ for i, v in L }${i}=${v};%{ endfor }"
    D = "%{ if length(L) > 1 ~}   many   %{~ else ~} few %{~ endif }"
    E = "$$ %% $ % {x}"
    F = "a\\b\"c\nd"
    G2 = <<-EOT
      first ${L[0]}
        second $${x}

      %{ if true }
      yes
      %{ endif }
    third
    EOT
    G3 = <<-EOT
      ${L[1]} x
        y
    EOT
    G4 = <<-EOT
      a ${~ L[1] ~}
        y
      %{~ if false ~} no %{ else ~} other %{ endif ~}
      z
    EOT
    G = <<-EOT
    %{ for v in L ~}
    - ${v}
    %{ endfor ~}
    end
    EOT
    H = <<EOT
no "quotes" needed \n
EOT
  }
}
