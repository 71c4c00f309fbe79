target "default" {
  args = {
    a = formatdate("YYYY-MM-DD'T'hh:mm:ssZ", "2018-01-02T23:12:01Z")
    b = formatdate("EEEE, DD-MMM-YY hh:mm:ss ZZZ", "2018-01-02T23:12:01-08:00")
    c = formatdate("EEE D MMMM H AA aa m s 'it''s' ZZZZ ZZZZZ", "2018-01-02T03:02:01+05:30")
    d = formattimestamp("YYYY", 1690328596)
    e = formattimestamp("X", "2018-01-02T23:12:01Z")
    f = timeadd("2017-11-22T00:00:00Z", "10m")
    g = timeadd("2017-11-22T00:00:00+01:00", "-1h30m5s")
    h = jsonencode(unixtimestampparse(1690328596))
  }
}
