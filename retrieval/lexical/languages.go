package lexical

import (
	"strings"

	"github.com/blevesearch/snowballstem"
	"github.com/blevesearch/snowballstem/danish"
	"github.com/blevesearch/snowballstem/dutch"
	"github.com/blevesearch/snowballstem/english"
	"github.com/blevesearch/snowballstem/finnish"
	"github.com/blevesearch/snowballstem/french"
	"github.com/blevesearch/snowballstem/german"
	"github.com/blevesearch/snowballstem/hungarian"
	"github.com/blevesearch/snowballstem/italian"
	"github.com/blevesearch/snowballstem/norwegian"
	"github.com/blevesearch/snowballstem/portuguese"
	"github.com/blevesearch/snowballstem/romanian"
	"github.com/blevesearch/snowballstem/russian"
	"github.com/blevesearch/snowballstem/spanish"
	"github.com/blevesearch/snowballstem/swedish"
	"github.com/blevesearch/snowballstem/turkish"
)

// stemmers are Snowball's (https://snowballstem.org/algorithms/).
var stemmers = map[string]func(*snowballstem.Env) bool{
	"danish": danish.Stem, "dutch": dutch.Stem, "english": english.Stem, "finnish": finnish.Stem, "french": french.Stem,
	"german": german.Stem, "hungarian": hungarian.Stem, "italian": italian.Stem, "norwegian": norwegian.Stem,
	"portuguese": portuguese.Stem, "romanian": romanian.Stem, "russian": russian.Stem, "spanish": spanish.Stem,
	"swedish": swedish.Stem, "turkish": turkish.Stem,
}

// stopWords are function words as they stand after folding: lower case, no diacritics, no apostrophes. A language without a list
// drops none; BM25 weighs such words little in any case.
var stopWords = map[string]map[string]bool{
	"english": list(`a about above after again against all also am an and any are aren as at be because been before being below
		between both but by can cannot could couldn did didn do does doesn doing don down during each few for from further had hadn
		has hasn have haven having he her here hers herself him himself his how i if in into is isn it its itself just me more most
		my myself no nor not of off on once only or other our ours ourselves out over own same she should shouldn so some such than
		that the their theirs them themselves then there these they this those through to too under until up upon us very was wasn we
		were weren what when where which while who whom whose why will with won would wouldn you your yours yourself yourselves
		im ive id ill youre youve youd youll hes shes theyre theyve weve dont doesnt didnt isnt arent wasnt werent cant couldnt
		wont wouldnt shouldnt hasnt havent hadnt thats whats theres`),
	"german": list(`aber alle allem allen aller alles als also am an andere anderem anderen anderer auch auf aus bei beim bin bis bist
		da dadurch daher damit dann das dass dein deine dem den der des dessen deshalb die dies diese diesem diesen dieser dieses doch
		dort du durch ein eine einem einen einer eines er es euer fur hatte hatten habe haben hat hier hinter ich ihr ihre ihrem ihren
		ihrer im in ist ja jede jedem jeden jeder jedes jener kann kein keine keinem keinen keiner konnen man mein meine mit muss nach
		nicht noch nun nur ob oder ohne sehr sein seine seinem seinen seiner sich sie sind so soll sollte sondern uber um und uns unser
		unsere unter vom von vor wann warum was weil weiter welche welchem welchen welcher welches wenn wer werde werden wie wieder wir
		wird wo wurde wurden zu zum zur zwischen`),
	"french": list(`a ai alors apres as au aucun aussi autre aux avec avoir ce ces cet cette chez comme comment dans de des deux donc dont du
		elle elles en encore entre est et etaient etait etant etre eu eux fait il ils je la le les leur leurs lors lui ma mais me meme
		mes moi mon ne ni nos notre nous on ont ou par pas pendant peu peut plus pour pourquoi qu quand que quel quelle quelles quels
		qui sa sans se sera ses si son sont sous sur ta te tes toi ton tous tout toute toutes tres tu un une vos votre vous y cest
		quest nest jai`),
	"spanish": list(`a al algo alguno ante antes como con contra cual cuando de del desde donde dos el ella ellas ellos en entre era eran es
		esa esas ese eso esos esta estan estar estas este esto estos fue fueron ha habia han hasta hay la las le les lo los mas me mi
		mis mucho muy nada ni no nos nosotros o os otra otro para pero poco por porque que quien quienes se sea ser si sido sin sobre
		son su sus tambien tan te tiene tienen todo todos tu tus un una uno unos y ya yo`),
	"italian": list(`a ad agli ai al alla alle allo anche avere aveva c che chi ci come con contro cosa cui da dagli dai dal dalla dalle de
		degli dei del della delle dello di dove e ed era erano essere fra gli ha hanno ho i il in io la le lei li lo loro lui ma mi
		mia mio ne negli nei nel nella nelle noi non nostra nostro o ogni per perche piu po quale quando quella quelle quelli quello
		questa queste questi questo qui se sei si sia siamo sono sta su sua sue sugli sui sul sulla suo tra tu tua tuo tutti tutto un
		una uno vi voi`),
	"portuguese": list(`a ao aos as ate com como da das de dela dele deles depois do dos e ela elas ele eles em entre era eram essa essas
		esse esses esta estao estas este estes eu foi foram ha isso isto ja lhe lhes mais mas me mesmo meu minha muito na nao nas nem
		no nos nossa nosso num numa o os ou para pela pelas pelo pelos por porque qual quando que quem se sem ser seu seus so sua suas
		tambem te tem um uma voce`),
	"dutch": list(`aan al alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus een eens en er ge geen geweest
		haar had heb hebben heeft hem het hier hij hoe hun iemand iets ik in is ja je kan kon kunnen maar me meer men met mij mijn moet
		na naar niet niets nog nu of om omdat onder ons ook op over reeds te tegen toch toen tot u uit uw van veel voor want waren was
		wat we wel werd wezen wie wij wil worden zal ze zei zelf zich zij zijn zo zonder zou`),
}

func list(words string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(words) {
		out[w] = true
	}
	return out
}
