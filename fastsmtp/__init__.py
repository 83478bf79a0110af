"""fastsmtp: SMTP in, confirmed JSON messages in RabbitMQ (or an embedded queue) out."""

__version__ = "0.1.0"
