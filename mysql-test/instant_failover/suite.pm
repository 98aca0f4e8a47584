package My::Suite::Instant_failover;

@ISA = qw(My::Suite);

# A server says so of each plugin that is less mature than itself.
push @::global_suppressions, qr(Plugin 'instant_failover' is of maturity level);

bless { };
