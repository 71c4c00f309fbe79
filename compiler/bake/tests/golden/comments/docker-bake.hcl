# one
// two
/* three
   four */
target "default" { # five
  tags = [ # six
    "a", // seven
    /* eight */ "b",
  ]
  args = {
    // nine
    A = "1" # ten
    B = "2"
  }
}
