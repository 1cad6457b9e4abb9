// A strict parser of others, to be asked about the plugin's messages.
module syslogsink.io/test-parser

go 1.26.0

require github.com/leodido/go-syslog/v4 v4.6.0

require github.com/leodido/ragel-machinery v0.0.0-20190525184631-5f46317e436b // indirect
