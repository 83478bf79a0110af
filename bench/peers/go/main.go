// The peer in Go: go-smtp takes the mail, amqp091-go publishes it.
//
// One confirm channel for all sessions, one message a recipient, persistent and mandatory as
// fastsmtp's; 250 is answered when the broker has confirmed the last of them. No logging.
package main

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
	amqp "github.com/rabbitmq/amqp091-go"
)

const hostname = "mx.example.com"

var (
	port    = flag.Int("port", 0, "listen on 127.0.0.1")
	url     = flag.String("url", "", "of the broker")
	queue   = flag.String("queue", "", "durable; is declared where it is missing")
	cert    = flag.String("cert", "", "PEM; STARTTLS is offered")
	key     = flag.String("key", "", "PEM")
	discard = flag.Bool("discard", false, "no broker: read the content, answer 250")
)

func main() {
	flag.Parse()
	// Little of it lives long, and memory is not what a best friend would save.
	debug.SetGCPercent(400)
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(*port)))
	check(err)
	server := smtp.NewServer(backend{})
	server.Domain = hostname
	server.AuthDisabled = true
	server.EnableSMTPUTF8 = true
	server.MaxLineLength = 0 // its count looks at every octet once more
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		check(err)
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	if !*discard {
		broker = connect()
	}
	check(server.Serve(talking{listener}))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

var broker *amqp.Channel

// connect opens the one channel. Whatever goes wrong with it later is the end of the run.
func connect() *amqp.Channel {
	connection, err := amqp.DialConfig(*url, amqp.Config{Dial: dial})
	check(err)
	channel, err := connection.Channel()
	check(err)
	_, err = channel.QueueDeclare(*queue, true, false, false, false, nil)
	check(err)
	check(channel.Confirm(false))
	closed := channel.NotifyClose(make(chan *amqp.Error))
	returned := channel.NotifyReturn(make(chan amqp.Return))
	go func() {
		select {
		case err := <-closed:
			log.Fatal(err)
		case message := <-returned:
			log.Fatal("unroutable: ", message.MessageId)
		}
	}()
	return channel
}

type backend struct{}

func (backend) Login(*smtp.ConnectionState, string, string) (smtp.Session, error) {
	return nil, smtp.ErrAuthUnsupported
}

func (backend) AnonymousLogin(state *smtp.ConnectionState) (smtp.Session, error) {
	local := state.LocalAddr.(*net.TCPAddr)
	remote := state.RemoteAddr.(*net.TCPAddr)
	facts := connection{
		LocalIP: local.IP.String(), LocalPort: local.Port,
		RemoteIP: remote.IP.String(), RemotePort: remote.Port,
		Secure: state.TLS.HandshakeComplete, Helo: state.Hostname,
	}
	if facts.Secure {
		facts.TLS = "TLSv1." + strconv.Itoa(int(state.TLS.Version-tls.VersionTLS10))
		facts.Cipher = tls.CipherSuiteName(state.TLS.CipherSuite)
	}
	return &session{ips: []string{facts.LocalIP}, connection: facts}, nil
}

type session struct {
	ips        []string
	connection connection
	sender     string
	recipients []string
}

func (s *session) Reset() {
	s.recipients = s.recipients[:0]
}

func (s *session) Logout() error {
	return nil
}

func (s *session) Mail(from string, _ smtp.MailOptions) error {
	s.sender = from
	return nil
}

func (s *session) Rcpt(to string) error {
	s.recipients = append(s.recipients, to)
	return nil
}

// own and shared are the properties of the message: one recipient's, and all recipients'.
type own struct {
	MessageID string `json:"message-id"`
	Recipient string `json:"recipient"`
}

type shared struct {
	Received   string     `json:"received"`
	Hostname   string     `json:"hostname"`
	Envelope   string     `json:"envelope"`
	IPs        []string   `json:"ips"`
	Connection connection `json:"connection"`
}

type connection struct {
	LocalIP    string `json:"local-ip"`
	LocalPort  int    `json:"local-port"`
	RemoteIP   string `json:"remote-ip"`
	RemotePort int    `json:"remote-port"`
	Secure     bool   `json:"secure"`
	Helo       string `json:"helo"`
	TLS        string `json:"tls,omitempty"`
	Cipher     string `json:"cipher,omitempty"`
}

// Data makes the text that all recipients share once.
func (s *session) Data(reader io.Reader) error {
	space := spaces.Get().(*space)
	defer spaces.Put(space)
	content, err := space.read(reader)
	if err != nil || *discard {
		return err
	}
	now := time.Now().UTC()
	properties, err := json.Marshal(shared{
		now.Format("2006-01-02 15:04:05"), hostname, s.sender, s.ips, s.connection,
	})
	if err != nil {
		return err
	}
	tail := append(space.tail[:0], ',')
	tail = append(tail, properties[1:len(properties)-1]...)
	tail = append(tail, `,"mime":"`...)
	tail = appendText(tail, content)
	tail = append(tail, `"}`...)
	space.tail = tail
	confirmations, err := s.publish(space, now)
	if err != nil {
		return err
	}
	for _, confirmation := range confirmations {
		if !confirmation.Wait() {
			return &smtp.SMTPError{
				Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Not stored",
			}
		}
	}
	return nil
}

// Who publishes, or waits to: the last of them sends what all of them have written.
//
// amqp091-go 1.5 loses a confirm that comes before it has noted the publish: nothing may leave
// before PublishWithDeferredConfirm has returned.
var (
	publishers atomic.Int32
	publishing sync.Mutex
)

func (s *session) publish(space *space, now time.Time) ([]*amqp.DeferredConfirmation, error) {
	publishers.Add(1)
	publishing.Lock()
	defer publishing.Unlock()
	wire.cork()
	confirmations := make([]*amqp.DeferredConfirmation, 0, len(s.recipients))
	for _, recipient := range s.recipients {
		id := fresh()
		properties, err := json.Marshal(own{id, recipient})
		check(err)
		space.body = append(append(space.body[:0], properties[:len(properties)-1]...), space.tail...)
		confirmation, err := broker.PublishWithDeferredConfirm("", *queue, true, false, amqp.Publishing{
			ContentType:  "application/json",
			DeliveryMode: amqp.Persistent,
			MessageId:    id,
			Timestamp:    now,
			AppId:        "go",
			Body:         space.body,
		})
		check(err)
		confirmations = append(confirmations, confirmation)
	}
	if publishers.Add(-1) > 0 {
		return confirmations, nil
	}
	return confirmations, wire.uncork()
}

var random = bufio.NewReader(rand.Reader) // a system call now and then instead of one a message

func fresh() string {
	var octets [16]byte
	_, err := io.ReadFull(random, octets[:])
	check(err)
	return hex.EncodeToString(octets[:])
}

// space is what one message is worked on in; a publish has copied it when it returns.
type space struct {
	content, tail, body []byte
}

var spaces = sync.Pool{New: func() any { return &space{content: make([]byte, 0, 8192)} }}

// read is io.ReadAll into the same memory again.
func (s *space) read(reader io.Reader) ([]byte, error) {
	content := s.content[:0]
	for {
		if len(content) == cap(content) {
			content = append(content, 0)[:len(content)]
		}
		count, err := reader.Read(content[len(content):cap(content)])
		content = content[:len(content)+count]
		if err != nil {
			s.content = content
			if err == io.EOF {
				err = nil
			}
			return content, err
		}
	}
}

const digits = "0123456789abcdef"

// appendText adds content to the inside of a JSON string.
// go-smtp's reader has made every CRLF an LF: here it becomes what the client sent again.
func appendText(text, content []byte) []byte {
	begun := 0
	for at, octet := range content {
		if octet >= ' ' && octet != '"' && octet != '\\' {
			continue
		}
		text = append(text, content[begun:at]...)
		begun = at + 1
		switch octet {
		case '\n':
			text = append(text, `\r\n`...)
		case '"', '\\':
			text = append(text, '\\', octet)
		default:
			text = append(text, '\\', 'u', '0', '0', digits[octet>>4], digits[octet&15])
		}
	}
	return append(text, content[begun:]...)
}
