// Which of a Cluster's slots a key stands in: CRC16 (XMODEM) of what is between its first braces, or of the whole key.

const slotCount = 16_384;
const polynomial = 0x1021;

export function slotOf(key: string): number {
  let crc = 0;
  for (const byte of Buffer.from(tagOf(key))) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ polynomial : crc << 1;
    crc &= 0xffff;
  }
  return crc % slotCount;
}

function tagOf(key: string): string {
  const open = key.indexOf("{");
  if (open < 0) return key;
  const close = key.indexOf("}", open);
  return close > open + 1 ? key.slice(open + 1, close) : key;
}
