// Sends mail by net/smtp, five at a time: a job as JSON comes in; fails where a mail is refused.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/smtp"
	"os"
)

type job struct {
	Port  int
	Mails []struct {
		Envelope struct {
			From string
			To   []string
		}
		Raw string
	}
}

func main() {
	var given job
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		log.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", given.Port)
	slots := make(chan bool, 5)
	sent := make(chan error)
	for _, mail := range given.Mails {
		mail := mail
		go func() {
			slots <- true
			sent <- smtp.SendMail(address, nil, mail.Envelope.From, mail.Envelope.To, []byte(mail.Raw))
			<-slots
		}()
	}
	for range given.Mails {
		if err := <-sent; err != nil {
			log.Fatal(err)
		}
	}
}
