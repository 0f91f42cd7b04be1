// Where a connection comes from: its peer, and the source, as far as one machine or person can be
// told from others.
#pragma once

#include <sys/socket.h>

#include <string>

namespace espalier::net {

// "1.2.3.4:5" or "[::1]:5"; an IPv4 address within an IPv6 one is an IPv4 address.
std::string PeerText(const sockaddr_storage& peer);

// Of "1.2.3.4:5" the address "1.2.3.4"; of "[2001:db8::1]:5" the network "2001:db8::/64", since whoever
// has one address of an IPv6 network has all of them. What is neither is returned as it is.
std::string SourceOf(const std::string& peer);

}  // namespace espalier::net
