// Addresses: who a client is behind proxies, and the allow-lists of keys.
import { BlockList, isIP } from "node:net";

/** Whether an address is in one of the networks, in CIDR form or as single addresses. An empty list allows all. */
export function allowsAddress(networks: readonly string[], address: string): boolean {
  return networks.length === 0 || contains(listOf(networks), address);
}

/**
 * Finds the client's address: that of whoever connects, or, as long as that is a trusted proxy, what it says in x-forwarded-for, read from the right.
 * What stands left of an address that is not trusted may be anybody's invention.
 */
export function createClientAddress(trustedProxies: readonly string[]) {
  const trusted = listOf(trustedProxies);
  return (peer: string, forwardedFor: string | undefined): string => {
    let client = plainAddress(peer);
    if (trustedProxies.length === 0 || forwardedFor === undefined) return client;
    for (const hop of forwardedFor.split(",").toReversed()) {
      if (!contains(trusted, client)) break;
      const next = plainAddress(hop.trim());
      if (isIP(next) === 0) break;
      client = next;
    }
    return client;
  };
}

function listOf(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) addNetwork(list, network);
  return list;
}

function contains(list: BlockList, address: string): boolean {
  const plain = plainAddress(address);
  return isIP(plain) !== 0 && list.check(plain, isIP(plain) === 6 ? "ipv6" : "ipv4");
}

/** An IPv4 client of an IPv6 socket shows as ::ffff:10.0.0.1. */
function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, "");
}

export function isNetwork(text: string): boolean {
  const [address = "", bits, ...rest] = text.split("/");
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 6 ? 128 : 32));
}

function addNetwork(list: BlockList, network: string): void {
  const [address = "", bits] = network.split("/");
  const family = isIP(address) === 6 ? "ipv6" : "ipv4";
  if (bits === undefined) list.addAddress(address, family);
  else list.addSubnet(address, Number(bits), family);
}
