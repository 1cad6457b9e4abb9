// Command test-parser reads a stream of syslog messages from its standard input
// with the strict parsers of go-syslog, and prints each message as a line of
// JSON. It fails at the first message that a parser rejects.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/nontransparent"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"
)

// message has the fields of RFC 5424. A NILVALUE is absent.
type message struct {
	Facility       *uint8                       `json:"facility"`
	Severity       *uint8                       `json:"severity"`
	TimestampMicro *int64                       `json:"timestamp_micros"`
	Hostname       *string                      `json:"hostname"`
	AppName        *string                      `json:"app_name"`
	ProcID         *string                      `json:"procid"`
	MsgID          *string                      `json:"msgid"`
	StructuredData map[string]map[string]string `json:"structured_data"`
	Msg            *string                      `json:"msg"`
}

func main() {
	framing := flag.String("framing", "octet-counting", "octet-counting or newline")
	flag.Parse()
	if err := run(*framing, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "test-parser:", err)
		os.Exit(1)
	}
}

func run(framing string, in io.Reader, out io.Writer) error {
	buffered := bufio.NewWriter(out)
	encoder := json.NewEncoder(buffered)
	parsed := 0
	var failure error
	options := []syslog.ParserOption{
		// MSG is UTF-8 after a byte order mark (RFC 5424, section 6.4).
		syslog.WithMachineOptions(rfc5424.WithCompliantMsg()),
		syslog.WithListener(func(result *syslog.Result) {
			if failure != nil {
				return
			}
			if result.Error != nil {
				failure = fmt.Errorf("message %d: %w", parsed+1, result.Error)
				return
			}
			failure = encoder.Encode(fields(result.Message.(*rfc5424.SyslogMessage)))
			parsed++
		}),
	}
	parser, err := newParser(framing, options)
	if err != nil {
		return err
	}
	parser.Parse(in)
	return errors.Join(failure, buffered.Flush())
}

func newParser(framing string, options []syslog.ParserOption) (syslog.Parser, error) {
	switch framing {
	case "octet-counting":
		return octetcounting.NewParser(options...), nil
	case "newline":
		return nontransparent.NewParser(options...), nil
	default:
		return nil, fmt.Errorf("unknown framing %q: must be octet-counting or newline", framing)
	}
}

func fields(parsed *rfc5424.SyslogMessage) message {
	result := message{
		Facility: parsed.Facility,
		Severity: parsed.Severity,
		Hostname: parsed.Hostname,
		AppName:  parsed.Appname,
		ProcID:   parsed.ProcID,
		MsgID:    parsed.MsgID,
		Msg:      parsed.Message,
	}
	if parsed.Timestamp != nil {
		micros := parsed.Timestamp.UnixMicro()
		result.TimestampMicro = &micros
	}
	if parsed.StructuredData != nil {
		result.StructuredData = *parsed.StructuredData
	}
	return result
}
