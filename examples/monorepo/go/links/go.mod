module example.com/links

go 1.21

require example.com/slug v0.0.0

replace example.com/slug => ../slug
