// Sends mail by nodemailer, five at a time: a job as JSON comes in, the replies go out as JSON.
const nodemailer = require("nodemailer");

const job = JSON.parse(require("fs").readFileSync(0, "utf8"));
const transport = nodemailer.createTransport({
  host: "127.0.0.1",
  port: job.port,
  name: "client.example.net",
  ignoreTLS: true,
  pool: true,
  maxConnections: 5,
  maxMessages: 20,
});

Promise.all(job.mails.map((mail) => transport.sendMail(mail))).then(
  (sent) => {
    console.log(JSON.stringify(sent.map((each) => each.response)));
    transport.close();
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
