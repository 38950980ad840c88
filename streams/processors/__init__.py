"""What a batch of one partition becomes, without a broker: the parcel and the container processor."""
