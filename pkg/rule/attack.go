package rule

import (
	"slices"
	"strconv"
	"strings"
)

// AttackVersion is the version of MITRE ATT&CK whose ids Rule.Attack has. Files may have ids of earlier ones.
const AttackVersion = "19"

// techniques are the ids of ATT&CK for enterprises, and what earlier versions called them. The zero value becomes them
// when it is first asked.
type techniques struct {
	known   map[string]struct{}
	renamed map[string]string
}

func newTechniques() *techniques {
	t := &techniques{known: map[string]struct{}{}, renamed: map[string]string{}}
	for word := range strings.FieldsSeq(attackIDs) {
		base, subs, _ := strings.Cut(word, ".")
		t.known["T"+base] = struct{}{}
		last, gaps, _ := strings.Cut(subs, "-")
		most, _ := strconv.Atoi(last)
		for n := 1; n <= most; n++ {
			if !slices.Contains(strings.Split(gaps, "-"), strconv.Itoa(n)) {
				t.known[subTechnique(base, n)] = struct{}{}
			}
		}
	}
	for pair := range strings.FieldsSeq(attackRenamed) {
		old, now, _ := strings.Cut(pair, ">")
		t.renamed["T"+old] = "T" + now
	}
	return t
}

func subTechnique(base string, n int) string {
	digits := "00" + strconv.Itoa(n)
	return "T" + base + "." + digits[len(digits)-3:]
}

// current is an id of any version in AttackVersion; false: no version has it.
func (t *techniques) current(id string) (now string, known bool) {
	if t.known == nil {
		*t = *newTechniques()
	}
	if now, renamed := t.renamed[id]; renamed {
		return now, true
	}
	_, known = t.known[id]
	return id, known || t.isNew(id)
}

// isNew: those that version 19 added are known by their numbers alone.
func (t *techniques) isNew(id string) bool {
	base, _, _ := strings.Cut(id, ".")
	return base >= "T1682" && base <= "T1690"
}

// isTechnique says whether a text has the form of an id: Txxxx or Txxxx.xxx.
func isTechnique(s string) bool {
	id, sub, hasSub := strings.Cut(s, ".")
	return len(id) == 5 && id[0] == 'T' && isDigits(id[1:]) && (!hasSub || len(sub) == 3 && isDigits(sub))
}

func isDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// ofTags are the techniques that a rule names among its tags, as Falco's do. Tags that no version has are none.
func (t *techniques) ofTags(rule string, tags []string) []string {
	falcos := slices.ContainsFunc(tags, func(tag string) bool { return strings.HasPrefix(tag, "maturity_") })
	var ids []string
	for _, tag := range tags {
		if !isTechnique(tag) {
			continue
		}
		if falcos {
			tag = corrected(rule, tag)
		}
		if id, known := t.current(tag); known && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// corrected is what a tag of Falco's own rules, which are known by their maturity, has to be: reading /etc/shadow is no
// store of passwords, and asking a server of Kubernetes or of a cloud manipulates no data.
func corrected(rule, tag string) string {
	switch {
	case tag == "T1555":
		return "T1003.008"
	case tag == "T1565" && rule == "Contact cloud metadata service from container":
		return "T1552.005"
	case tag == "T1565":
		return "T1613"
	}
	return tag
}

// attackIDs are those of version 18.1 that 19 still has: the number, behind a dot that of its last sub-technique, and
// behind hyphens those of the sub-techniques that are missing before it. 19 added 1682 to 1690.
const attackIDs = `
	1001.3 1003.8 1005 1006 1007 1008 1010 1011.1 1012 1014 1016.2 1018 1020.1 1021.8 1025 1027.17 1029 1030 1033 1036.12 1037.5
	1039 1040 1041 1046 1047 1048.3 1049 1052.1 1053.7-1-4 1055.15-6-7-10 1056.4 1057 1059.13 1068 1069.3 1070.10-1-2 1071.5
	1072 1074.2 1078.4 1080 1082 1083 1087.4 1090.4 1091 1092 1095 1098.7 1102.3 1104 1105 1106 1110.4 1111 1112 1113 1114.3
	1115 1119 1120 1123 1124 1125 1127.3 1129 1132.2 1133 1134.5 1135 1136.3 1137.6 1140 1176.2 1185 1187 1189 1190 1195.3 1197
	1199 1200 1201 1202 1203 1204.5 1205.2 1207 1210 1211 1212 1213.6 1216.2 1217 1218.15-6 1219.3 1220 1221 1222.2 1480.2 1482
	1484.2 1485.1 1486 1489 1490 1491.2 1495 1496.4 1497.3 1498.2 1499.4 1505.6 1518.2 1525 1526 1528 1529 1530 1531 1534 1535
	1537 1538 1539 1542.5 1543.5 1546.18 1547.15-11 1548.6 1550.4 1552.8 1553.6 1554 1555.6 1556.9 1557.4 1558.5 1559.3 1560.3
	1561.2 1563.2 1564.14 1565.3 1566.4 1567.4 1568.3 1569.3 1570 1571 1572 1573.2 1574.14-2-3 1578.5 1580 1583.8 1584.8 1585.3
	1586.3 1587.4 1588.7 1589.3 1590.6 1591.4 1592.4 1593.3 1594 1595.3 1596.5 1597.2 1598.4 1599.1 1600.2 1601.2 1602.2 1606.2
	1608.6 1609 1610 1611 1612 1613 1614.1 1615 1619 1620 1621 1622 1647 1648 1649 1650 1651 1652 1653 1654 1657 1659 1665 1666
	1667 1668 1669 1671 1673 1674 1675 1677 1678 1679 1680 1681`

// attackRenamed says what the ids of earlier versions are now.
const attackRenamed = `
	1002>1560 1004>1547.004 1009>1027.001 1013>1547.010 1015>1546.008 1017>1072 1019>1542.001 1022>1560 1023>1547.009 1024>1573
	1028>1021.006 1031>1543.003 1032>1573 1035>1569.002 1038>1574.001 1042>1546.001 1044>1574.010 1045>1027.002 1050>1543.003
	1053.001>1053.002 1054>1685 1058>1574.011 1060>1547.001 1063>1518.001 1065>1571 1066>1027.005 1067>1542.003
	1070.001>1685.005 1070.002>1685.006 1073>1574.001 1075>1550.002 1076>1021.001 1077>1021.002 1079>1573 1081>1552.001
	1084>1546.003 1085>1218.011 1086>1059.001 1088>1548.002 1089>1685 1093>1055.012 1094>1095 1096>1564.004 1097>1550.003
	1099>1070.006 1100>1505.003 1101>1547.005 1103>1546.010 1107>1070.004 1109>1542.002 1116>1553.002 1117>1218.010
	1118>1218.004 1121>1218.009 1122>1546.015 1126>1070.005 1128>1546.007 1130>1553.004 1131>1547.002 1138>1546.011
	1139>1552.003 1141>1056.002 1142>1555.001 1143>1564.003 1144>1553.001 1145>1552.004 1146>1070.003 1147>1564.002 1148>1690
	1150>1647 1151>1036.006 1152>1569.001 1154>1546.005 1155>1059.002 1156>1546.004 1157>1574.004 1158>1564.001 1159>1543.001
	1160>1543.004 1161>1546.006 1162>1647 1163>1037.004 1164>1547.007 1165>1037.005 1166>1548.001 1167>1555.002 1168>1053
	1169>1548.003 1170>1218.005 1171>1557.001 1172>1090.004 1173>1559.002 1174>1556.002 1177>1547.008 1178>1134.005
	1179>1056.004 1180>1546.002 1181>1055.011 1182>1546.009 1183>1546.012 1184>1563.001 1186>1055.013 1188>1090.003
	1191>1218.003 1192>1566.002 1193>1566.001 1194>1566.003 1196>1218.002 1198>1553.003 1206>1548.003 1208>1558.003
	1209>1547.003 1214>1552.002 1215>1547.006 1223>1218.001 1483>1568.002 1487>1561.002 1488>1561.001 1492>1565.001
	1493>1565.002 1494>1565.003 1500>1027.004 1501>1543.002 1502>1134.004 1503>1555.003 1504>1546.013 1506>1550.004
	1514>1548.004 1519>1546.014 1522>1552.005 1527>1550.001 1536>1578.004 1547.011>1647 1562>1685 1562.001>1685
	1562.002>1685.001 1562.003>1690 1562.004>1686 1562.006>1685 1562.007>1686.001 1562.008>1685.002 1562.009>1688 1562.010>1689
	1562.011>1685.003 1562.012>1685.004 1562.013>1686.002 1574.002>1574.001 1656>1684.001 1672>1684.002`
