"""Accepted mail goes to RabbitMQ; `sink.RabbitMQ` is the sink.

broker.py when it is chosen, what it needs · counters.py its metrics ·
sink.py picks a connection · delivery.py one outcome per recipient · link.py keeps a connection up ·
channel.py does the broker store · failover.py which address is next ·
presence.py is the broker there · cluster.py how it is reached · topology.py what is declared ·
renewal.py a queue that was deleted ·
limit.py how large · publisher.py window, batches, confirms · compression.py gzip ·
unstored.py what the broker did not store · examination.py what mail would meet ·
_amqp.pyx frames · _confirms.pyx what the broker says of them · underlay.py aiormq's insides.
"""
