package main

import (
	"net"
	"sync"
	"time"
)

// talking hands out connections whose replies leave when the session reads on: one write for EHLO's
// lines, one for all that a pipelining client asked.
type talking struct{ net.Listener }

func (l talking) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &talk{Conn: conn}, err
}

type talk struct {
	net.Conn
	replies []byte
}

func (t *talk) Write(octets []byte) (int, error) {
	t.replies = append(t.replies, octets...)
	return len(octets), nil
}

func (t *talk) Read(octets []byte) (int, error) {
	if err := t.flush(); err != nil {
		return 0, err
	}
	return t.Conn.Read(octets)
}

func (t *talk) Close() error {
	// TLS leaves a deadline in the past behind its last alert. Who has hung up misses nothing.
	_ = t.Conn.SetWriteDeadline(time.Time{})
	_ = t.flush()
	return t.Conn.Close()
}

func (t *talk) flush() error {
	if len(t.replies) == 0 {
		return nil
	}
	_, err := t.Conn.Write(t.replies)
	t.replies = t.replies[:0]
	return err
}

// frames holds back what is written while it is corked: amqp091-go makes a write of every frame,
// and three of a publish.
type frames struct {
	net.Conn
	mutex   sync.Mutex
	corked  bool
	pending []byte
}

// enough is when frames are written all the same.
const enough = 1 << 18

func dial(network, address string) (net.Conn, error) {
	conn, err := amqpDial(network, address)
	wire = &frames{Conn: conn}
	return wire, err
}

var wire *frames

var amqpDial = (&net.Dialer{Timeout: 30 * time.Second}).Dial

func (f *frames) Write(octets []byte) (int, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if !f.corked {
		return f.Conn.Write(octets)
	}
	// The end of a publish stays here until uncork.
	if len(f.pending) > enough {
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	f.pending = append(f.pending, octets...)
	return len(octets), nil
}

func (f *frames) cork() {
	f.mutex.Lock()
	f.corked = true
	f.mutex.Unlock()
}

func (f *frames) uncork() error {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.corked = false
	return f.flush()
}

func (f *frames) flush() error {
	_, err := f.Conn.Write(f.pending)
	f.pending = f.pending[:0]
	return err
}
