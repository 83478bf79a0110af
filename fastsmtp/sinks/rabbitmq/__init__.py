"""The sink that publishes to RabbitMQ and waits for its confirms."""
