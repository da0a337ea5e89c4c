"""dsn: a decentralized storage network in one package."""
