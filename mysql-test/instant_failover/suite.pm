package My::Suite::Instant_failover;

@ISA = qw(My::Suite);

# A server says so of each plugin that is less mature than itself, ours and those of its test suite.
push @::global_suppressions, qr(Plugin '\w+' is of maturity level);

bless { };
